// Package booted holds the tests of Shunt as an installed service: a real
// systemd, booted in a container in which the Debian package is installed, and
// a real journald. They need root, Debian and some minutes, so they have a build
// tag: make booted.
package booted
