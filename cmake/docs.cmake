# The documents as a static site, build/<preset>/site, by the target `docs`, and in it the reference of the public
# headers, site/api, by `api`, which fails where a name has no comment. Pages that are made after the reference link to
# it. Debian: pandoc; doxygen. Links are tested where there is Python.
find_package(Python3 COMPONENTS Interpreter QUIET)
find_program(FPRNN_PANDOC pandoc)
find_package(Doxygen QUIET)

if(Python3_FOUND AND FPRNN_PANDOC)
  add_custom_target(docs
    COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/docs/site/build.py ${PROJECT_BINARY_DIR}/site
    USES_TERMINAL)
endif()
if(Python3_FOUND AND DOXYGEN_FOUND)
  set(api ${PROJECT_BINARY_DIR}/site/api)
  configure_file(docs/site/Doxyfile.in ${PROJECT_BINARY_DIR}/Doxyfile @ONLY)
  add_custom_target(api
    COMMAND ${CMAKE_COMMAND} -E make_directory ${api}
    COMMAND ${DOXYGEN_EXECUTABLE} ${PROJECT_BINARY_DIR}/Doxyfile
    COMMAND ${CMAKE_COMMAND} -E echo "${api}/index.html"
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
endif()
if(FPRNN_BUILD_TESTS AND Python3_FOUND)
  add_test(NAME links COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/docs/site/links.py)
endif()
