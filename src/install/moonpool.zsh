#compdef moonpool
# zsh completion for moonpool. What may follow is asked of the program, so that it is never out of
# date.
local curcontext=$curcontext state line
typeset -A opt_args
local -a told

_arguments -C '--app[the project folder]:folder:_files -/' '(- *)--help[commands and topics]' \
  '(- *)--version[the version]' '1:command:->command' '*::argument:->argument' && return

case $state in
  command)
    told=(${(f)"$(moonpool --help 2>/dev/null | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p')"})
    _describe command told
    ;;
  argument)
    if [[ $PREFIX == -* ]]; then
      told=(${(u)${(f)"$(moonpool $words[1] --help 2>/dev/null | grep -oE -e '--[a-z][a-z-]+')"}})
      _describe option told -o nosort
    elif [[ $words[1] == (call|explain) && CURRENT -eq 2 ]]; then
      told=(${(f)"$(moonpool ${opt_args[--app]:+--app} ${opt_args[--app]} ops 2>/dev/null |
        sed -nE 's/^ *([a-z][a-z0-9_]*) +(.*)/\1:\2/p')"})
      _describe operation told
    elif [[ $words[1] == help && CURRENT -eq 2 ]]; then
      told=(${(f)"$(moonpool --help 2>/dev/null | sed -n '/^Commands/,$s/^  \([a-z]\{1,\}\) .*/\1/p')"})
      _describe topic told
    elif [[ $words[1] == (bench|check|run|spec|types) ]]; then
      _files
    elif [[ CURRENT -eq 2 ]]; then # "up | down | status" in the list of commands
      told=(${(f)"$(moonpool --help 2>/dev/null | sed -n "s/^  $words[1] //p" | sed 's/   .*//' |
        grep -oE '\b[a-z]{2,}\b')"})
      _describe argument told
    fi
    ;;
esac
