#!/usr/bin/env bash
# check.sh ADDRESS PASSWORD: ask the running tour site for its pages, as a browser would. Exit status 0 if all is well.
set -euo pipefail

address=$1
password=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
page=$folder/page

fail() { printf 'check: %s\n' "$*" >&2; exit 1; }

# Asks for path $1 (more words are curl's) and expects status $2. The page is kept in $page.
ask() {
  local path=$1 expected=$2 status
  shift 2
  status=$(curl -sS -m 20 -o "$page" -w '%{http_code}' -b "$folder/cookies" -c "$folder/cookies" "$@" "$address$path") ||
    fail "$path: curl failed"
  [[ $status == "$expected" ]] || { head -c 2000 "$page" >&2; fail "$path: status $status, expected $expected"; }
}

shows() { grep -qF -- "$1" "$page" || { head -c 2000 "$page" >&2; fail "the page does not show '$1'"; }; }

token() { awk '$6 == "csrftoken" { print $7 }' "$folder/cookies"; }

ask / 200
shows 'It works'
ask /static/tour/tour.css 200
shows '--accent'

text="entry $RANDOM-$RANDOM"
ask /guestbook/ 200
ask /guestbook/ 302 -H "Origin: $address" -d "csrfmiddlewaretoken=$(token)" -d name=check --data-urlencode "text=$text"
ask /guestbook/ 200
shows "$text"
ask /guestbook/ 200 -d "csrfmiddlewaretoken=$(token)" -d name=check -d text=
shows 'This field is required.'
ask /guestbook/ 403 -d name=check -d text=forged

ask /account/ 302
ask /login/ 200
ask /login/ 200 -d "csrfmiddlewaretoken=$(token)" -d username=demo -d password=wrong
shows 'Please enter a correct'
ask /login/ 302 -H "Origin: $address" -d "csrfmiddlewaretoken=$(token)" -d username=demo --data-urlencode "password=$password"
ask /account/ 200
shows 'Hello, demo'
ask /admin/ 200
shows 'Entries'

for views in 1 2 3 4 5; do
  ask /counter/ 200
  shows "id=\"views\">$views<"
done

ask /workers/ 200
shows 'preforkd: pool tour'
ask '/slow?ms=x' 400
ask /nowhere 404

# More than the pool starts with, at once: it must grow.
seq 20 | xargs -P 20 -I{} curl -fsS -m 20 -o "$folder/slow-{}" "$address/slow?ms=200" || fail "/slow: curl failed"
workers=$(sort -u "$folder"/slow-* | wc -l)
[[ $workers -gt 4 ]] || fail "20 slow pages at once were answered by only $workers workers"
