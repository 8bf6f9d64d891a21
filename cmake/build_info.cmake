# What core/build_info.cpp cannot know by itself: the commit, asked for at every build.
find_package(Git QUIET)
if(NOT EXISTS ${PROJECT_SOURCE_DIR}/.git)  # the repository of a project that contains us is not ours
  set(GIT_EXECUTABLE "")
endif()
set(header ${PROJECT_BINARY_DIR}/commit/fprnn_commit.h)
add_custom_target(fprnn_commit
  COMMAND ${CMAKE_COMMAND} -D GIT=${GIT_EXECUTABLE} -D SOURCE=${PROJECT_SOURCE_DIR} -D HEADER=${header}
          -P ${PROJECT_SOURCE_DIR}/cmake/commit.cmake
  BYPRODUCTS ${header} COMMENT "")
add_dependencies(fprnn fprnn_commit)
set_property(SOURCE ${PROJECT_SOURCE_DIR}/core/build_info.cpp
             PROPERTY INCLUDE_DIRECTORIES ${PROJECT_BINARY_DIR}/commit)
