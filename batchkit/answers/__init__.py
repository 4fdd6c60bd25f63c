"""What an answer must be to count.

A workload that is made of a table may carry rules. The merge reads each answer by them: one that breaks them is a failed attempt
with its own reason, and its request is asked again, differently. Pure: no clock, no files, no database.

======================  ==============================================================  ==================================
Reason                  Meaning                                                         The next request
======================  ==============================================================  ==================================
``answer_truncated``    the model ran into its token limit (``finish_reason: length``)  four times the tokens, then the cap
``answer_invalid``      not what the rules ask for                                      another seed
``answer_empty``        nothing in it                                                   another seed
``generation_failed``   the provider could not make JSON or a tool call of it (400)     another seed
======================  ==============================================================  ==================================
"""

from batchkit.answers.amend import amended
from batchkit.answers.check import AnswerCheck, Reading, Reason, reason_of_refusal
from batchkit.answers.rules import AnswerRules, check_for, load_rules

__all__ = ["AnswerCheck", "AnswerRules", "Reading", "Reason", "amended", "check_for", "load_rules", "reason_of_refusal"]
