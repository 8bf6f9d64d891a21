# The installed package: headers in include/fprnn, the library, a CMake package and a pkg-config file; and, where
# programs or tests are built too, the task library. Consumers need OpenMP when they link, cudart and cuBLAS too if
# built with CUDA, and nothing else: fmt, nlohmann_json, CLI11 and CUDA's headers stay in our source files.
include(CMakePackageConfigHelpers)

set(installed_targets fprnn)
set(installed_folders ${FPRNN_FOLDERS})
if(TARGET fprnn_tasks)
  list(APPEND installed_targets fprnn_tasks)
  list(APPEND installed_folders tasks)
  set_target_properties(fprnn_tasks PROPERTIES EXCLUDE_FROM_ALL OFF)
endif()

foreach(folder IN LISTS installed_folders)
  install(DIRECTORY ${folder}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/fprnn/${folder}
          FILES_MATCHING PATTERN "*.h")
endforeach()
install(FILES ${FPRNN_INCLUDE}/fprnn/config.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/fprnn)
install(TARGETS ${installed_targets} EXPORT fprnnTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/fprnn)
install(EXPORT fprnnTargets NAMESPACE fprnn:: DESTINATION ${package})
configure_package_config_file(cmake/fprnnConfig.cmake.in ${PROJECT_BINARY_DIR}/fprnnConfig.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fprnnConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)  # before 1.0 a minor version may break
install(FILES ${PROJECT_BINARY_DIR}/fprnnConfig.cmake ${PROJECT_BINARY_DIR}/fprnnConfigVersion.cmake
        DESTINATION ${package})

# The prefix is written relative to the .pc file, so that an installation can be moved.
file(RELATIVE_PATH FPRNN_PC_TO_PREFIX "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
file(RELATIVE_PATH FPRNN_PC_LIBDIR "${CMAKE_INSTALL_PREFIX}" "${CMAKE_INSTALL_FULL_LIBDIR}")
file(RELATIVE_PATH FPRNN_PC_INCLUDEDIR "${CMAKE_INSTALL_PREFIX}" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
set(FPRNN_PC_CUDA "")
if(FPRNN_CUDA)  # the loader need not know the toolkit's folder
  set(FPRNN_PC_CUDA " -L${CUDAToolkit_LIBRARY_DIR} -Wl,-rpath,${CUDAToolkit_LIBRARY_DIR}")
  string(APPEND FPRNN_PC_CUDA " -lcudart_static -lcublasLt -ldl -lrt -lpthread")
endif()
configure_file(cmake/fprnn.pc.in ${PROJECT_BINARY_DIR}/fprnn.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/fprnn.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
