# bash completion for moonpool. What may follow is asked of the program, so that it is never out of
# date.
_moonpool() {
  local word=${COMP_WORDS[COMP_CWORD]} command= app=() i words=
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --app) app=(--app "${COMP_WORDS[++i]}") ;;
      -*) ;;
      *) command=${COMP_WORDS[i]}; break ;;
    esac
  done
  if [[ ${COMP_WORDS[COMP_CWORD - 1]} == --app ]]; then
    mapfile -t COMPREPLY < <(compgen -d -- "$word")
    return
  fi
  if [[ $word == -* && -z $command ]]; then
    words="--app --help --version"
  elif [[ $word == -* ]]; then
    words=$(moonpool "$command" --help 2>/dev/null | grep -oE -e '--[a-z][a-z-]+' | sort -u)
  elif [[ -z $command ]]; then
    words=$(moonpool --help 2>/dev/null | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p')
  elif ((COMP_CWORD == i + 1)); then
    case $command in
      help) words=$(moonpool --help 2>/dev/null | sed -n '/^Commands/,$s/^  \([a-z]\{1,\}\) .*/\1/p') ;;
      call | explain) words=$(moonpool "${app[@]}" ops 2>/dev/null | sed -n 's/^ *\([a-z][a-z0-9_]*\) .*/\1/p') ;;
      *) # "up | down | status" in the list of commands
        words=$(moonpool --help 2>/dev/null | sed -n "s/^  $command //p" | sed 's/   .*//' |
          grep -oE '\b[a-z]{2,}\b') ;;
    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  if [[ $word != -* && " bench check run spec types " == *" $command "* ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
  fi
}
complete -o filenames -F _moonpool moonpool
