"""The rules that an answer must keep to count.

A workload that was made from a table may have rules. The merge checks each answer: an answer that breaks the rules is a failed
attempt with its own reason, and its request is sent again, changed. Pure: no clock, no files, no database.

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

from batchkit.answers.amend import amended
from batchkit.answers.check import AnswerCheck, Reading, schema_of_values
from batchkit.answers.reasons import Reason, is_final, reason_of_refusal
from batchkit.answers.rules import AnswerRules, check_for, load_rules

__all__ = [
    "AnswerCheck",
    "AnswerRules",
    "Reading",
    "Reason",
    "amended",
    "check_for",
    "is_final",
    "load_rules",
    "reason_of_refusal",
    "schema_of_values",
]
