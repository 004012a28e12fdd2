// Package smpp is the SMPP engine: one Session a connection, for either side,
// with framing, a window of outstanding requests, batched writes and the
// session's own liveness. It decides nothing about messages.
//
// Goroutines of a session: Serve, the reader, runs on its caller's goroutine
// and calls the Handler; one writer goroutine, started by NewSession and ended
// by Close, owns the timers and writes what could not be written at once.
// All else may be called from any goroutine.
package smpp
