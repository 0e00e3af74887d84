# package.cmake: what is installed beside libraries and headers, and the Debian package (`make deb`).
# Who makes the package, named as Debian's tools name him.
if(DEFINED ENV{DEBEMAIL})
  set(CPACK_PACKAGE_CONTACT "$ENV{DEBFULLNAME} <$ENV{DEBEMAIL}>")
else()
  set(CPACK_PACKAGE_CONTACT "moonpool authors <moonpool@packages.invalid>")
endif()
install(TARGETS moonpool RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT host)
install(CODE "
  set(PROGRAM \"$<TARGET_FILE:moonpool>\")
  set(VERSION \"${PROJECT_VERSION}\")
  set(CONTACT \"${CPACK_PACKAGE_CONTACT}\")
  set(SOURCE \"${CMAKE_CURRENT_LIST_DIR}\")
  set(MADE \"${PROJECT_BINARY_DIR}/installed\")" COMPONENT host)
install(SCRIPT ${CMAKE_CURRENT_LIST_DIR}/install.cmake COMPONENT host)

set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON) # /etc is outside of the prefix
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL host)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_PACKAGE_NAME moonpool)
set(CPACK_DEBIAN_HOST_PACKAGE_NAME moonpool)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION database)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_HOST_PACKAGE_DEPENDS "adduser, lua-filesystem")
# The embedded database, and what `moonpool spec` runs specs with.
set(CPACK_DEBIAN_HOST_PACKAGE_SUGGESTS "postgresql-15, lua-busted, lua-cjson, lua-luv")
set(CPACK_COMPONENT_HOST_DESCRIPTION
"runs operations, Lua scripts that are each one transaction
A host for operations: Lua scripts that are each one business transaction on
PostgreSQL. It repeats what conflicted, batches statements, keeps callers in
order, delivers messages exactly once, and loads changed scripts while it
runs. It serves over HTTP, with a dashboard and metrics for Prometheus.")
set(CPACK_DEBIAN_HOST_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_LIST_DIR}/debian/conffiles
  ${CMAKE_CURRENT_LIST_DIR}/debian/postinst ${CMAKE_CURRENT_LIST_DIR}/debian/prerm
  ${CMAKE_CURRENT_LIST_DIR}/debian/postrm)
include(CPack)
