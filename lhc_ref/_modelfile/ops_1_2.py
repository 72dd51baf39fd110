"""The operator that format 1.2 adds."""

from collections.abc import Mapping

from lhc_ref._modelfile.ops_1_1 import shape_of_two
from lhc_ref._modelfile.schema import OpSchema

OPS_1_2: Mapping[str, OpSchema] = {"div": OpSchema(shape_of_two, arity=2, since="1.2")}
