# install.cmake: run by `cmake --install`: what names the prefix or is written by the program itself.
# Given: PROGRAM (the executable that was built), VERSION, CONTACT, SOURCE (this folder), MADE (a
# folder of the build).
set(prefix "${CMAKE_INSTALL_PREFIX}")
if(prefix MATCHES "^/usr(/local)?/?$")
  set(ETC /etc)
else()
  set(ETC ${prefix}/etc)
endif()
set(BIN ${prefix}/bin)
set(zsh ${prefix}/share/zsh/site-functions)
if(prefix STREQUAL "/usr")
  set(zsh /usr/share/zsh/vendor-completions)
endif()
file(REMOVE_RECURSE ${MADE})
file(MAKE_DIRECTORY ${MADE}/man)

configure_file(${SOURCE}/moonpool.service ${MADE}/moonpool.service @ONLY)
file(INSTALL ${MADE}/moonpool.service DESTINATION ${prefix}/lib/systemd/system)
file(INSTALL ${SOURCE}/moonpool.bash RENAME moonpool DESTINATION ${prefix}/share/bash-completion/completions)
file(INSTALL ${SOURCE}/moonpool.zsh RENAME _moonpool DESTINATION ${zsh})

# Settings that somebody has made stay.
if(NOT EXISTS $ENV{DESTDIR}${ETC}/moonpool/moonpool.env)
  execute_process(COMMAND lua5.4 ${SOURCE}/environment.lua ${PROGRAM}
    OUTPUT_FILE ${MADE}/moonpool.env COMMAND_ERROR_IS_FATAL ANY)
  file(INSTALL ${MADE}/moonpool.env DESTINATION ${ETC}/moonpool PERMISSIONS OWNER_READ OWNER_WRITE)
endif()

find_program(CMARK cmark-gfm)
if(CMARK)
  execute_process(COMMAND lua5.4 ${SOURCE}/man.lua ${PROGRAM} ${MADE}/man
    WORKING_DIRECTORY ${MADE} COMMAND_ERROR_IS_FATAL ANY)
  foreach(section 1 7)
    file(GLOB pages ${MADE}/man/*.${section})
    foreach(page IN LISTS pages)
      execute_process(COMMAND gzip -9n ${page} COMMAND_ERROR_IS_FATAL ANY)
      file(INSTALL ${page}.gz DESTINATION ${prefix}/share/man/man${section})
    endforeach()
  endforeach()
else()
  message(WARNING "no man pages: cmark-gfm, which makes them, is missing; `moonpool help` has the same texts")
endif()

# ---- what Debian asks of a package ----

set(doc ${prefix}/share/doc/moonpool)
file(INSTALL ${SOURCE}/debian/copyright DESTINATION ${doc})
file(COPY_FILE ${SOURCE}/../../CHANGELOG.md ${MADE}/changelog)
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
file(WRITE ${MADE}/changelog.Debian "moonpool (${VERSION}-1) unstable; urgency=medium\n
  * Version ${VERSION}; its changes are in changelog.gz.\n
 -- ${CONTACT}  ${date}\n")
execute_process(COMMAND gzip -9n ${MADE}/changelog ${MADE}/changelog.Debian COMMAND_ERROR_IS_FATAL ANY)
file(INSTALL ${MADE}/changelog.gz ${MADE}/changelog.Debian.gz DESTINATION ${doc})
file(INSTALL ${SOURCE}/debian/lintian-overrides RENAME moonpool DESTINATION ${prefix}/share/lintian/overrides)
