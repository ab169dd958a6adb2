"""The language server for machine descriptions and the guest XML beside them.

    cursor      where in a description a cursor is: path, node, key; also in a text that is no YAML yet
    analysis    a text as read: its tree, positions, and what ``check`` and ``reconcile`` find
    completion  what fits at a cursor
    hover       what a device or a property is
    navigation  definitions, references, renames, outline, folding
    actions     what mends a finding
    protocol    values of mdtool as values of the Language Server Protocol
    server      the handlers

Everything but ``server`` and ``protocol`` is pure: text and tree in, plain values out.
"""
