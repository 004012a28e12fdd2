// Package external asks other registries about numbers that nobody registered
// here. Whatever goes wrong with them, a message stays with the carrier.
//
// A number's way:
//
//	Look       a cached verdict, or the breaker's: at once, on the reader's goroutine
//	Ask        else the message waits for the number's flight: one look-up for all
//	           that ask about the number meanwhile, which go on in their order
//	           when it is answered
//	AskAll     the same for all destinations of a submit_multi at once
//	registry   what is known is told the registry here before anybody goes on, so
//	           that pushes, claims and a restart find it
//
// docs/protocol/external-registry.md has the question and the answers.
package external
