"""Bring a description up to date with an edited guest XML, while every survivor keeps its place."""

from mdtool.reconcile.reconciler import Options, Result, linked, reconcile
from mdtool.reconcile.update import updated

__all__ = ["Options", "Result", "linked", "reconcile", "updated"]
