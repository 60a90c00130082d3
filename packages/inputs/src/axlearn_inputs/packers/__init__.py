"""How documents become rows."""

from axlearn_inputs.packers.best_fit import BestFitPacker
from axlearn_inputs.packers.concatenate import ConcatenatingPacker
from axlearn_inputs.packers.packer import Packer, Piece, Row

__all__ = ["BestFitPacker", "ConcatenatingPacker", "Packer", "Piece", "Row"]
