# npm.cmake: fetches what a package-lock.json pins, by version and by hash, and runs none of its scripts. Without them the
# build goes on: FILES are empty then, and what is built of them is told.
#
#   cmake -DNPM=PROGRAM -DFROM=FOLDER -DTO=FOLDER -DFILES=LIST -P npm.cmake
cmake_minimum_required(VERSION 3.25)

file(COPY "${FROM}/package.json" "${FROM}/package-lock.json" DESTINATION "${TO}")
execute_process(
  COMMAND "${NPM}" ci --ignore-scripts --no-audit --no-fund --prefer-offline --loglevel=error
  WORKING_DIRECTORY "${TO}" RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE said)
if(status)
  message(WARNING "${said}\nnpm could not fetch what ${FROM}/package-lock.json names (${status}): the dashboard shows its charts as "
    "text. When the registry can be reached (npm config get registry): rm -r ${TO}, and build again")
  foreach(file IN LISTS FILES)
    file(WRITE "${file}" "")
  endforeach()
endif()
file(GLOB_RECURSE files "${TO}/node_modules/*")
file(TOUCH_NOCREATE ${files}) # newer than the lock: npm keeps the times of the archive
