"""Placeholder back ends: a machine as it is, with nothing of its host behind it.

A guest sees its devices and not what is behind them, so a machine can be looked at anywhere: a dump of a script, an
import, a rehearsal, a fingerprint and an audit all start one with placeholders.

    backends   what takes the place of a back end: a row a property by which devices name one
    drivers    devices that do not exist without their host: a row a driver
    options    what becomes of each of QEMU's options: a row an option
    server     the process behind a TPM or a vhost-user device; it answers, and does nothing
"""
