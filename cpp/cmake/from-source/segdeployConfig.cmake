# find_package(segdeploy) with -Dsegdeploy_DIR=$(segdeploy cpp --cmake-dir): builds the sources as a
# part of the project that asks, whose `cmake --install` then puts the library beside its programs.
# An installed library has its own package file.
if(NOT TARGET segdeploy::runtime)
  add_subdirectory("${CMAKE_CURRENT_LIST_DIR}/../.." "${CMAKE_BINARY_DIR}/segdeploy")
endif()
