"""The closed vocabulary: everyday words learned from drawn things, for ``smerf label``; no weights are shipped.

Things of random shape (``furniture``, ``small``) are put into rooms, onto tables and into yards (``scenes``) and
rendered by the ray tracer of ``smerf synth``; a small transformer (``network``) learns the word of every pixel
(``train``), and names photos with depth (``eyes``).
"""
