"""Compiles a kernel for a Raspberry Pi, on any machine, and prints its assembly.

    python -m tests.runtime.arm conv_blocks conv_blocks_narrow cortex-a72

Numba's own steps up to LLVM's, then LLVM for the other CPU. In a process of its own: kernels ask at
import what they are compiled for, and Numba cannot run what this makes.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from llvmlite import binding

TRIPLE = "aarch64-unknown-linux-gnu"


def main() -> None:
    module, name, cpu = sys.argv[1:]
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    own, binding.get_process_triple = binding.get_process_triple, lambda: TRIPLE
    from deepchip.runtime.kernels.compiled.cpu import NEON

    assert NEON
    binding.get_process_triple = own
    kernel = getattr(import_module(f"deepchip.runtime.kernels.compiled.{module}"), name)
    print(_assembly(_linked(kernel), cpu))


def _linked(kernel: Any) -> str:
    """Return LLVM's code of a kernel and of what it calls, before it is optimized for a CPU."""
    import numba
    from numba.core.ccallback import CFunc
    from numba.core.codegen import JITCodeLibrary
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.cpu import CPUContext

    steps: Any = JITCodeLibrary
    context: Any = CPUContext
    found: dict[str, str] = {}
    optimize = steps._optimize_final_module

    def keep(library: Any) -> None:
        found[library.name] = str(library._final_module)
        optimize(library)

    def finish(library: Any) -> None:  # not to machine code of this CPU
        library._finalized = True

    steps._optimize_final_module = keep
    steps._finalize_final_module = finish
    context.get_executable = lambda *_: [].append  # Numba wants any builtin, each another
    types: Any = numba.types
    pointers = tuple(types.CPointer(numba.from_dtype(layout)) for layout in kernel.layouts)
    options = {"error_model": "numpy"}
    function: Any = CFunc(kernel.plain, (pointers, types.void), locals={}, options=options)
    with global_compiler_lock:
        library = function._compile_uncached().library
        library._ensure_finalized()
    return found[library.name]


def _assembly(code: str, cpu: str) -> str:
    """Optimize as Numba does, see `CPUCodeLibrary._optimize_final_module`."""
    from numba.core.llvm_bindings import create_pass_builder

    machine = binding.Target.from_triple(TRIPLE).create_target_machine(
        cpu=cpu, opt=3, codemodel="jitdefault", jit=True
    )
    module = binding.parse_assembly(code)
    module.triple, module.data_layout = TRIPLE, str(machine.target_data)
    passes_for: Any = create_pass_builder
    cheap = passes_for(machine, opt=0)
    passes = cheap.getModulePassManager()
    passes.add_loop_rotate_pass()
    passes.add_instruction_combine_pass()
    passes.add_jump_threading_pass()
    passes.run(module, cheap)
    full = passes_for(machine, opt=3, loop_vectorize=True)
    full.getModulePassManager().run(module, full)
    assembly: str = machine.emit_assembly(module)
    return assembly


if __name__ == "__main__":
    main()
