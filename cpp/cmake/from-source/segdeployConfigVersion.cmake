# By the rule of an installed library: the file that one would have is written, and asked.
file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/../../CMakeLists.txt" line REGEX "^project\\(segdeploy VERSION")
string(REGEX REPLACE ".*VERSION ([0-9.]+).*" "\\1" version "${line}")
include(CMakePackageConfigHelpers)
write_basic_package_version_file("${CMAKE_BINARY_DIR}/segdeployVersionOfSources.cmake"
  VERSION "${version}" COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
include("${CMAKE_BINARY_DIR}/segdeployVersionOfSources.cmake")
