"""Bring a description up to date with an edited guest XML, while every survivor keeps its place."""

from mdtool.reconcile.reconciler import Options, Result, linked, reconcile

__all__ = ["Options", "Result", "linked", "reconcile"]
