"""The rules of the built-in offline model: words, spans of text, tools ranked, parameters filled, answers written.

    words, spans -> ranking, clauses -> slots, recall -> planner -> answer

`providers.offline` puts a provider around them. Nothing here knows a network, a clock or chance.
"""
