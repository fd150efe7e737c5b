#!/bin/bash
# Run by systemd inside the container of test_units.py: uses the units as a person would; one line a finding in $1/result.
drill=$1
say() { echo "$*" >> "$drill/result"; }
main() { systemctl show -p MainPID --value hftcl-schedule; }
hit() {  # hit SIGNAL: send it to the service, whose process is remembered as $before; 0 would be this script's own group
    before=$(main)
    [ "$before" != 0 ] && kill "$1" "$before"
}
wait_for() {  # wait_for SECONDS COMMAND...: whether the command succeeds within that time
    local left=$1; shift
    until "$@" > /dev/null 2>&1; do
        ((left-- > 0)) || return 1
        sleep 1
    done
}
another() { local now; now=$(main); [ "$now" != 0 ] && [ "$now" != "$1" ] && systemctl is-active -q hftcl-schedule; }

systemctl start hftcl-schedule && say "ready $(systemctl show -p Type --value hftcl-schedule)"
inside() { nsenter -t "$(main)" -m "$@"; }
touch /dev/shm/of-another
inside touch /dev/shm/own && inside test ! -e /dev/shm/of-another && test ! -e /dev/shm/own && say "shared memory is its own"

hit -9
wait_for 60 another "$before" && say "restarted after kill"
wait_for 60 grep -q "ended by a failure" "$drill/home/told" && say "kill told by the next start"

hit -STOP
wait_for 90 another "$before" && say "restarted by the watchdog"

begun=$SECONDS
systemctl stop hftcl-schedule && ((SECONDS - begun <= 20)) && say "stopped in time"
[ "$(systemctl show -p Result --value hftcl-schedule)" = success ] && say "a stop is no failure"
systemctl start hftcl-schedule
systemctl stop hftcl-schedule
[ "$(systemctl show -p Result --value hftcl-schedule)" = success ] && say "a stop at the start is no failure"

systemctl start hftcl-dashboard && say "the dashboard is ready"
page=$(systemctl show -p MainPID --value hftcl-dashboard)
nsenter -t "$page" -m test -r "$drill/home/hftcl.toml" && ! nsenter -t "$page" -m touch "$drill/home/written" && say "it cannot write"
systemctl stop hftcl-dashboard
[ "$(systemctl show -p Result --value hftcl-dashboard)" = success ] && say "the dashboard stops"

: > "$drill/home/told"
sed -i 's/^timezone.*/timezone = "Nowhere\/Land"/' "$drill/home/hftcl.toml"
systemctl start hftcl-schedule
wait_for 30 systemctl is-failed -q hftcl-schedule && say "an invalid configuration is not restarted"
sed -i 's/^timezone.*/timezone = "UTC"/' "$drill/home/hftcl.toml"
systemctl reset-failed hftcl-schedule

at=$(date -u -d "+70 seconds" +%H:%M)
sed -i "s/^digest.*/digest = \"$at\"/" "$drill/home/hftcl.toml"
systemctl start hftcl-schedule
systemctl stop hftcl-schedule  # "powered off" while the job falls due
: > "$drill/home/told"
wait_for 130 eval '[[ $(date -u +%H:%M) > $at ]]'
systemctl start hftcl-schedule
wait_for 180 grep -q "The last 7 days" "$drill/home/told" && say "a job missed while stopped is caught up"

systemctl start hftcl-schedule
: > "$drill/home/told"
for _ in 1 2 3 4 5 6; do
    systemctl is-failed -q hftcl-schedule && break
    hit -9
    wait_for 60 eval 'systemctl is-failed -q hftcl-schedule || another "$before"'
done
systemctl is-failed -q hftcl-schedule && say "given up after a burst"
wait_for 60 grep -q "has ended, and is not started again" "$drill/home/told" && say "the dead service is told"
journalctl --no-pager -o cat > "$drill/journal"
say "done"
systemctl poweroff
