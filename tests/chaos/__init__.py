"""Breaks everything that can break, under load, and checks what was promised against what came.

Read it in this order: `scenarios` (what is broken, and how one scenario goes), `faults/` (how),
`stack` (what there is to break), `load` (who asks), `checker` (who judges), `report` (the table).
"""
