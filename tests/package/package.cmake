# Checks that are not programs of ours: each is one test of ctest.
set(package ${PROJECT_SOURCE_DIR}/tests/package)

add_test(NAME public_headers
         COMMAND sh ${package}/public_headers.sh ${FPRNN_FOLDERS} tasks WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})

# Where the safetensors package of Python is not installed it says so and counts as skipped.
add_test(NAME interoperability
         COMMAND sh ${package}/interoperability.sh $<TARGET_FILE:tests>)
set_tests_properties(interoperability PROPERTIES SKIP_RETURN_CODE 77)

# Not with sanitizers, whose own symbols are everywhere.
if(NOT FPRNN_SANITIZE)
  foreach(isa IN LISTS isas)
    add_test(NAME kernel_symbols_${isa}
             COMMAND sh ${package}/kernel_symbols.sh ${CMAKE_NM} ${CMAKE_OBJDUMP} ${isa}
                     "$<FILTER:$<TARGET_OBJECTS:fprnn_${isa}>,EXCLUDE,[.](pch|gch)$>"
             COMMAND_EXPAND_LISTS)
  endforeach()
endif()

# Each consumer is configured, built and run as a project of its own, with our compiler and build type. Of
# a build with CUDA it is how the package links that differs.
set(consumers "")
if(FPRNN_TEST_PACKAGE)
  set(consumers installed examples pkg_config subdirectory fetched)
elseif(FPRNN_CUDA AND FPRNN_INSTALL)
  set(consumers installed pkg_config)
endif()
foreach(consumer IN LISTS consumers)
  add_test(NAME consumer_${consumer}
           COMMAND ${CMAKE_COMMAND} -DCONSUMER=${consumer} -DSOURCE=${PROJECT_SOURCE_DIR}
                   -DBINARY=${PROJECT_BINARY_DIR} -DGENERATOR=${CMAKE_GENERATOR}
                   -DCXX=${CMAKE_CXX_COMPILER} -DBUILD_TYPE=$<CONFIG>
                   -P ${package}/consumer.cmake)
  set_tests_properties(consumer_${consumer} PROPERTIES SKIP_REGULAR_EXPRESSION "^SKIPPED: ")
endforeach()
if(FPRNN_TEST_PACKAGE)
  set_tests_properties(consumer_installed PROPERTIES FIXTURES_SETUP installation)  # whose prefix the next uses
  set_tests_properties(consumer_examples PROPERTIES FIXTURES_REQUIRED installation)
  # The README's own code, as a reader would copy it; after the installed consumer, whose prefix it uses.
  add_test(NAME readme
           COMMAND bash ${package}/readme.sh ${PROJECT_BINARY_DIR} ${CMAKE_CXX_COMPILER}
           WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(readme PROPERTIES DEPENDS consumer_installed)
endif()
