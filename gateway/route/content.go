package route

import (
	"bytes"
	"slices"
	"strings"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// ContentOf classifies a text by rules alone. They are conservative: what none
// of them is sure of is transactional.
//
//   - one-time-code: what OneTimeCode takes for one.
//   - promotional: a discount, a voucher or the like together with a sign that
//     it goes to many: a percentage, a link, or how to be sent no more. An
//     opt-out notice alone is none, since the reminders of a dentist have one.
//   - interaction: from a sender that can be answered, so a number or short
//     code, and with a question or a request to reply; a link makes it none.
//
// It does not allocate for texts below a kilobyte.
func ContentOf(source pdu.Address, text string) msg.Content {
	if OneTimeCode(text) {
		return msg.ContentOneTimeCode
	}
	var buf [1024]byte
	b := fold(buf[:0], text)
	link := bytes.Contains(b, []byte("http://")) || bytes.Contains(b, []byte("https://")) || bytes.Contains(b, []byte("www."))
	out := hasPhrase(b, optOut)
	switch {
	case offers(b) && (link || out || percentage(b)):
		return msg.ContentPromotional
	case answerable(source) && !link && !out && (asks(b) || hasPhrase(b, replyTo)):
		return msg.ContentInteraction
	}
	return msg.ContentTransactional
}

// offers looks for a word of advertising.
func offers(b []byte) bool {
	if hasPhrase(b, adverts) {
		return true
	}
	for i := range b {
		if !isLetter(b[i]) && b[i] != '%' {
			continue
		}
		if s := stemAt(b, i); s != nil && s.kind == offerWord {
			return true
		}
	}
	return false
}

// percentage looks for a number before a "%".
func percentage(b []byte) bool {
	for i, c := range b {
		if c != '%' {
			continue
		}
		if before := bytes.TrimRight(b[:i], " "); len(before) > 0 && isDigit(before[len(before)-1]) {
			return true
		}
	}
	return false
}

// asks looks for a sentence that ends as a question.
func asks(b []byte) bool {
	for i, c := range b {
		if c == '?' && sentenceEnd(b, i) {
			return true
		}
	}
	return false
}

// answerable tells whether a handset can send an answer there: to digits
// alone, with or without a leading "+".
func answerable(source pdu.Address) bool {
	d := bytes.TrimPrefix(source.Addr, []byte("+"))
	return source.TON != pdu.TONAlphanumeric && len(d) >= 3 && !slices.ContainsFunc(d, func(c byte) bool { return !isDigit(c) })
}

// Phrases are folded as the text is; a word ends where its letters do.
var (
	adverts = phrases("promo_code promocode special_offer limited_offer shop_now buy_now")
	optOut  = phrases(`reply_stop text_stop txt_stop send_stop stop_to stop_sms to_stop opt_out opt-out optout unsubscribe unsub
		stop_au sms_stop desabonn* abmelden abbestellen stopp_an baja_al darse_de_baja disiscri* afmelden wypisz*`)
	replyTo = phrases(`reply_with reply_yes reply_no reply_y reply_n reply_to_confirm please_reply text_back
		antworten_sie repondez responda responde_si rispondi antwoord odpowiedz`)
)

type phrase struct {
	text []byte
	on   bool // it may go on to the right
}

func phrases(list string) (all []phrase) {
	for w := range strings.FieldsSeq(list) {
		text, on := strings.CutSuffix(w, "*")
		all = append(all, phrase{[]byte(strings.ReplaceAll(text, "_", " ")), on})
	}
	return all
}

func hasPhrase(b []byte, list []phrase) bool {
	for _, p := range list {
		for from := 0; ; {
			i := bytes.Index(b[from:], p.text)
			if i < 0 {
				break
			}
			start, end := from+i, from+i+len(p.text)
			if (start == 0 || !isLetter(b[start-1])) && (p.on || end == len(b) || !isLetter(b[end])) {
				return true
			}
			from = end
		}
	}
	return false
}
