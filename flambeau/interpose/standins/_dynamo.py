"""``torch._dynamo``: the few names that programs touch outside of torch itself."""

from flambeau.interpose.standins.compiler import disable as disable
from flambeau.interpose.standins.compiler import is_compiling as is_compiling
from flambeau.interpose.standins.compiler import reset as reset
