# What core/build_info.cpp cannot know by itself. The commit is that of the last configuration, which
# git's log of HEAD makes due again after each commit or checkout.
set(commit "")
find_package(Git QUIET)
if(Git_FOUND AND EXISTS ${PROJECT_SOURCE_DIR}/.git)  # not the repository of a project that contains us
  execute_process(COMMAND ${GIT_EXECUTABLE} describe --tags --always --dirty
                  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(EXISTS ${PROJECT_SOURCE_DIR}/.git/logs/HEAD)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
                 ${PROJECT_SOURCE_DIR}/.git/logs/HEAD)
  endif()
endif()
if(NOT commit)
  set(commit unknown)
endif()
set_property(SOURCE ${PROJECT_SOURCE_DIR}/core/build_info.cpp
             PROPERTY COMPILE_DEFINITIONS FPRNN_COMMIT="${commit}")
