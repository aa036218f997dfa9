# TensorRT::nvinfer from headers and library, of TensorRT or TensorRT-RTX; NVIDIA ships no package.
# Hints: TensorRT_ROOT, TensorRT_INCLUDE_DIR, TensorRT_LIBRARY. TensorRT_IS_RTX says which it is.
find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h)
find_library(TensorRT_LIBRARY NAMES nvinfer tensorrt_rtx libtensorrt_rtx.so.1)

# Until 10.10 the header has "#define NV_TENSORRT_MAJOR 10"; from 10.11 on that is the name of
# another macro, as in "#define TRT_MAJOR_ENTERPRISE 10". TensorRT-RTX has "TRT_MAJOR_RTX".
function(read_tensorrt_part part result)
  set(${result} "" PARENT_SCOPE)
  set(file "${TensorRT_INCLUDE_DIR}/NvInferVersion.h")
  if(EXISTS "${file}")
    file(STRINGS "${file}" lines
      REGEX "^#define (NV_TENSORRT_${part}|TRT_${part}_ENTERPRISE|TRT_${part}_RTX) +[0-9]+")
    if(lines)
      list(GET lines 0 line)
      string(REGEX REPLACE "^#define [A-Z_]+ +([0-9]+).*" "\\1" number "${line}")
      set(${result} "${number}" PARENT_SCOPE)
      if(line MATCHES "_RTX")
        set(TensorRT_IS_RTX TRUE PARENT_SCOPE)
      endif()
    endif()
  endif()
endfunction()

set(TensorRT_IS_RTX FALSE)
read_tensorrt_part(MAJOR TensorRT_VERSION_MAJOR)
read_tensorrt_part(MINOR TensorRT_VERSION_MINOR)
read_tensorrt_part(PATCH TensorRT_VERSION_PATCH)
if(NOT TensorRT_VERSION_MAJOR STREQUAL "")
  set(TensorRT_VERSION "${TensorRT_VERSION_MAJOR}.${TensorRT_VERSION_MINOR}.${TensorRT_VERSION_PATCH}")
endif()

# The oldest that will do: each counts for itself.
set(TensorRT_FIND_VERSION 10)
if(TensorRT_IS_RTX)
  set(TensorRT_FIND_VERSION 1.1)  # the first with IRuntime::getEngineValidity
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRT
  REQUIRED_VARS TensorRT_LIBRARY TensorRT_INCLUDE_DIR VERSION_VAR TensorRT_VERSION)
if(TensorRT_FOUND AND NOT TARGET TensorRT::nvinfer)
  add_library(TensorRT::nvinfer UNKNOWN IMPORTED)
  set_target_properties(TensorRT::nvinfer PROPERTIES
    IMPORTED_LOCATION "${TensorRT_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${TensorRT_INCLUDE_DIR}")
endif()
