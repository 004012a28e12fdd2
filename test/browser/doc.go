// Package browser holds the tests of the operators' page in a real browser:
// Debian's Chromium looks at the real gateway while simulated ESMEs, SMSC,
// providers and phones keep it busy. They install the browser where it is
// missing, so they have a build tag: make browser.
package browser
