#!/bin/sh
# pipit.1.sh PIPIT: the manual page of pipit(1), made from what `pipit --help` says, so
# that it names the commands that there are.
set -eu
pipit=$1
cat <<'M'
.TH PIPIT 1 "" Pipit "Pipit"
.SH NAME
pipit \- look after a Pipit chat server
.SH SYNOPSIS
.B pipit
.I command
.RI [ options ]
.SH DESCRIPTION
.B pipit
looks after the Pipit server of this machine, over the admin socket in its data directory,
and checks or restores a data directory while no server runs on it. Each command explains
itself:
.B pipit
.I command
.BR \-\-help .
With
.B \-\-json
every answer is JSON.
.SH COMMANDS
M
"$pipit" --help | awk '
	/^Available Commands:/ { on = 1; next }
	/^$/ { on = 0 }
	on { name = $1; sub(/^ *[^ ]+ +/, ""); gsub(/\\/, "\\\\"); gsub(/-/, "\\-"); printf ".TP\n.B %s\n%s\n", name, $0 }'
cat <<'M'
.SH EXIT STATUS
M
"$pipit" --help | awk '/^Exit codes:/ { on = 1 } /^$/ { on = 0 } on { sub(/^Exit codes: /, ""); gsub(/-/, "\\-"); print }'
cat <<'M'
.SH FILES
.TP
.I /etc/pipit/pipit.yaml
settings of the server
.TP
.I /var/lib/pipit
everything that is stored
.SH SEE ALSO
.BR pipitd (8),
.BR systemctl (1),
.BR journalctl (1)
M
