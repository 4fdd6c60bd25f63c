"""Tables in, tables out: whatever holds rows, read and written in bounded memory."""
