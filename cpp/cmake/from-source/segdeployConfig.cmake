# find_package(segdeploy) with -Dsegdeploy_DIR=$(segdeploy cpp --cmake-dir): builds the sources as a
# part of the project that asks. An installed library has its own package file.
if(NOT TARGET segdeploy::runtime)
  add_subdirectory("${CMAKE_CURRENT_LIST_DIR}/../.." "${CMAKE_BINARY_DIR}/segdeploy" EXCLUDE_FROM_ALL)
endif()
