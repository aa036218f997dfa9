# Headers that are needed to build, each with a sentence where it is missing.
function(require_headers variable file what package)
  find_path(${variable} ${file} PATH_SUFFIXES ${ARGN})
  if(NOT ${variable})
    message(FATAL_ERROR "${what} is missing: there is no ${file}\n"
      "hint: apt install ${package}, or -D${variable}=FOLDER")
  endif()
endfunction()

require_headers(SEGDEPLOY_JSON_INCLUDE_DIR nlohmann/json.hpp "nlohmann-json" "nlohmann-json3-dev")
if(SEGDEPLOY_ONNXRUNTIME)
  require_headers(SEGDEPLOY_ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h "ONNX Runtime"
    "libonnxruntime-dev (Debian 13, Ubuntu 25.04 or later)" onnxruntime onnxruntime/core/session)
endif()
if(SEGDEPLOY_TENSORRT)
  find_package(TensorRT REQUIRED)
  find_package(CUDAToolkit QUIET)
  if(NOT TARGET CUDA::cudart_static)  # no toolkit; the wheel nvidia-cuda-runtime has what is needed
    require_headers(SEGDEPLOY_CUDA_INCLUDE_DIR cuda_runtime_api.h "the CUDA runtime" "cuda-cudart-dev")
    find_library(SEGDEPLOY_CUDART_LIBRARY cudart_static REQUIRED)
    find_package(Threads REQUIRED)
    add_library(CUDA::cudart_static UNKNOWN IMPORTED)
    set_target_properties(CUDA::cudart_static PROPERTIES
      IMPORTED_LOCATION "${SEGDEPLOY_CUDART_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${SEGDEPLOY_CUDA_INCLUDE_DIR}"
      INTERFACE_LINK_LIBRARIES "Threads::Threads;${CMAKE_DL_LIBS};rt")
  endif()
endif()
if(SEGDEPLOY_TOOLS)
  require_headers(SEGDEPLOY_STB_INCLUDE_DIR stb_image.h "stb" "libstb-dev" stb)
endif()
