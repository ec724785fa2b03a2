# Finds MLIR 22 and makes its exported targets fit for files that must run where
# MLIR is not installed.
# No version is asked for here: MLIR's config file has no version file beside it in
# every distribution, and a failed search would forget the MLIR_DIR that was given.
find_package(MLIR REQUIRED CONFIG)
if(NOT LLVM_VERSION_MAJOR EQUAL 22)
  message(FATAL_ERROR
    "bmgrad needs MLIR 22, found ${LLVM_PACKAGE_VERSION} in ${MLIR_DIR}. "
    "Name another with -DMLIR_DIR=<prefix>/lib/cmake/mlir.")
endif()
message(STATUS "MLIR ${LLVM_PACKAGE_VERSION} in ${MLIR_DIR}")

# The Python package needs the sources of MLIR's bindings, bm-opt does not.
if(TARGET MLIRPythonSources.Core.Python)
  set(BM_HAS_PYTHON_SOURCES ON)
else()
  set(BM_HAS_PYTHON_SOURCES OFF)
  set(reason
    "${MLIR_DIR} was built without MLIR_ENABLE_BINDINGS_PYTHON, so the Python "
    "package cannot be made with it")
  if(SKBUILD)
    message(FATAL_ERROR ${reason} ". Name an MLIR that was built with it.")
  endif()
  message(STATUS ${reason} "; bm-opt can.")
endif()

list(APPEND CMAKE_MODULE_PATH ${MLIR_CMAKE_DIR} ${LLVM_CMAKE_DIR})

# Static libraries instead of libLLVM.so, a file of 136 MB that lies in a folder
# which pip deletes after an isolated build.
set(LLVM_LINK_LLVM_DYLIB OFF)
set(MLIR_LINK_MLIR_DYLIB OFF)
foreach(target IN LISTS MLIR_EXPORTED_TARGETS)
  if(NOT TARGET ${target})
    continue()
  endif()
  foreach(property INTERFACE_LINK_LIBRARIES MLIR_AGGREGATE_DEP_LIBS_IMPORTED)
    get_target_property(libraries ${target} ${property})
    if(libraries AND "LLVM" IN_LIST libraries)
      list(REMOVE_ITEM libraries LLVM)
      list(APPEND libraries LLVMSupport LLVMRemarks)
      set_target_properties(${target} PROPERTIES ${property} "${libraries}")
    endif()
  endforeach()
endforeach()

# Nothing of MLIR's own install rules applies to us.
set(LLVM_INSTALL_TOOLCHAIN_ONLY ON)

include(TableGen)
include(AddLLVM)
include(AddMLIR)
set(LLVM_ENABLE_WARNINGS ON)
if(POLICY CMP0219)
  # Backslashes in macro arguments, as LLVM's files were written for.
  cmake_policy(SET CMP0219 OLD)
endif()
include(HandleLLVMOptions)

# MLIR has no RTTI; code that derives from its classes must have none either.
# (nanobind extensions switch it on again for themselves.)
if(NOT LLVM_ENABLE_RTTI AND NOT MSVC)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>)
endif()
