"""The rules that an answer must keep to count.

A workload that was made from a table may have rules. The merge checks each answer: an answer that breaks the rules is a failed
attempt with its own reason, and its request is sent again, changed. Pure: no clock, no files, no database.

======================  ==============================================================  ==================================
Reason                  Meaning                                                         The next request
======================  ==============================================================  ==================================
``answer_truncated``    the model ran into its token limit (``finish_reason: length``)  four times the tokens, then the cap
``answer_invalid``      it breaks the rules                                             another seed
``answer_empty``        it is empty                                                     another seed
``generation_failed``   the provider could not parse it as JSON or a tool call (400)    another seed
======================  ==============================================================  ==================================
"""

from batchkit.answers.amend import amended
from batchkit.answers.check import AnswerCheck, Reading, Reason, reason_of_refusal
from batchkit.answers.rules import AnswerRules, check_for, load_rules

__all__ = ["AnswerCheck", "AnswerRules", "Reading", "Reason", "amended", "check_for", "load_rules", "reason_of_refusal"]
