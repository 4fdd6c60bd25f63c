"""Makes suites of promptfoo's configurations (promptfoo.dev/docs/configuration/reference). Nothing in them is run, and nothing is sent."""
