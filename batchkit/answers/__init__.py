"""The rules that an answer must keep to count.

A workload that was made from a table may have rules. The merge checks each answer: an answer that breaks the rules is a failed
attempt with its own reason, and its request is sent again, changed. No files, no database; what may not come to an end runs in a
process of its own (``bounded_check``).

======================  ==============================================================  ==================================
Reason                  Meaning                                                         The next request
======================  ==============================================================  ==================================
``answer_truncated``    the model ran into its token limit (``finish_reason: length``)  four times the tokens, then the cap
``answer_invalid``      it breaks the rules                                             another seed
``answer_empty``        it is empty                                                     another seed
``answer_filtered``     a filter of the provider cut it off                             another seed
``answer_refused``      the model refuses; the message has its words                    none, unless ``resubmit --failed`` asks
``generation_failed``   the provider could not parse it as JSON or a tool call (400)    another seed
======================  ==============================================================  ==================================
"""
