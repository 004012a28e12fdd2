// Package systemd is the gateway's side of its service manager: readiness and
// watchdog (sd_notify(3)), and the journal's native protocol as an slog.Handler
// with the fields and MESSAGE_IDs that a NOC asks for. The units, the catalogue
// and the rest of what is installed are beside it.
package systemd
