# npm.cmake: fetches what a package-lock.json pins, by version and by hash, and runs none of its scripts.
#
#   cmake -DNPM=PROGRAM -DFROM=FOLDER -DTO=FOLDER -P npm.cmake
cmake_minimum_required(VERSION 3.25)

file(COPY "${FROM}/package.json" "${FROM}/package-lock.json" DESTINATION "${TO}")
execute_process(
  COMMAND "${NPM}" ci --ignore-scripts --no-audit --no-fund --prefer-offline --loglevel=error
  WORKING_DIRECTORY "${TO}" RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE said)
if(status)
  message(FATAL_ERROR "${said}\nnpm could not fetch what ${FROM}/package-lock.json names; the first build "
    "needs the npm registry (npm config get registry), later ones do not. Build again when it can be reached")
endif()
file(GLOB_RECURSE files "${TO}/node_modules/*")
file(TOUCH_NOCREATE ${files}) # newer than the lock: npm keeps the times of the archive
