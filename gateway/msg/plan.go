package msg

import "time"

// Content is what kind of text a message holds.
type Content uint8

const (
	ContentUnknown       Content = iota // not looked at, or not known yet
	ContentOneTimeCode                  // a one-time code
	ContentInteraction                  // asks its reader for an answer
	ContentTransactional                // everything else
	ContentPromotional                  // advertising
)

// ContentNames are the names of the contents in their order; the unknown one
// cannot be asked for.
var ContentNames = []string{"unknown", "one-time-code", "interaction", "transactional", "promotional"}

func (c Content) String() string {
	if int(c) < len(ContentNames) {
		return ContentNames[c]
	}
	return ContentNames[ContentUnknown]
}

// Hours are a part of every day, in minutes since midnight: From is in it, To
// is not. They go over midnight where To is not behind From.
type Hours struct{ From, To int }

// Contains tells whether the time of day of t, where t is, is within h.
func (h Hours) Contains(t time.Time) bool {
	hour, minute, _ := t.Clock()
	at := hour*60 + minute
	if h.From < h.To {
		return h.From <= at && at < h.To
	}
	return h.From <= at || at < h.To
}
