package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"shunt/gateway/api"
	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/number"
	"shunt/gateway/presence"
	"shunt/gateway/prove"
	"shunt/gateway/upstream"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/store"
)

// owners is everything about who a number belongs to: verifications and their
// SMS, subscribers' SMS to the short code, presence, recycled numbers.
type owners struct {
	prove    *prove.Service // nil: numbers cannot be proven here
	presence *presence.Tracker
	recycled *prove.Feed // nil: nobody tells
	outgoing chan ownSMS // codes and confirmations
	incoming chan subscriberSMS
}

// Bounds of what waits for the SMSC and for the disk. A code that has to wait for
// longer than it is good for is not sent.
const (
	maxOutgoing = 1000
	maxIncoming = 1000
	takeWithin  = 10 * time.Second
)

// ownSMS is an SMS of Shunt's own.
type ownSMS struct {
	from  string
	to    msg.Number
	text  string
	until time.Time
}

// subscriberSMS is an SMS to the short code.
type subscriberSMS struct {
	from   msg.Number
	text   string
	answer func(pdu.Status)
}

// countries are those whose national numbers apps' users and operators write.
type countries struct {
	usual number.Country
	of    map[string]number.Country // by app, where it has its own
}

func countriesOf(c *config.Config) (*countries, error) {
	usual, err := number.In(c.Registry.DefaultCountry)
	if err != nil {
		return nil, fmt.Errorf("registry.default_country: %w", err)
	}
	all := &countries{usual: usual, of: make(map[string]number.Country)}
	for _, a := range c.Apps {
		if a.DefaultCountry == "" {
			continue
		}
		if all.of[a.ID], err = number.In(a.DefaultCountry); err != nil {
			return nil, fmt.Errorf("app %s: default_country: %w", a.ID, err)
		}
	}
	return all, nil
}

// country is that of an app, or with "" the one for operators and files.
func (g *Gateway) country(app string) number.Country {
	all := g.live.Load().countries
	if c, ok := all.of[app]; ok {
		return c
	}
	return all.usual
}

// limitsOfApps are what presence goes by.
func limitsOfApps(apps []config.App) map[string]presence.Limits {
	limits := make(map[string]presence.Limits, len(apps))
	for i := range apps {
		a := &apps[i]
		limits[a.ID] = presence.Limits{ActiveFor: a.ActiveFor, InactiveAfter: a.InactiveAfter, MissedClaims: a.MissedClaims}
	}
	return limits
}

// makeOwners comes after the registry and before Shunt's own binds.
func (g *Gateway) makeOwners() error {
	g.owners.presence = presence.New(presence.Options{Registry: g.registry, Apps: limitsOfApps(g.cfg.Apps), Log: g.log})
	if r := &g.cfg.Registry; r.RecycledFile != "" || r.RecycledURL != "" {
		g.owners.recycled = prove.NewFeed(prove.FeedOptions{
			File: r.RecycledFile, URL: r.RecycledURL, Every: r.RecycledEvery, Registry: g.registry, Country: g.country(""), Log: g.log,
		})
	}
	v := &g.cfg.Verification
	if !v.Offered() {
		return nil
	}
	key, err := secretKey(filepath.Join(g.cfg.Node.DataDir, "verification.key"))
	if err != nil {
		return fmt.Errorf("verification: %w", err)
	}
	g.owners.outgoing, g.owners.incoming = make(chan ownSMS, maxOutgoing), make(chan subscriberSMS, maxIncoming)
	g.owners.prove = prove.New(prove.Options{
		Registry: g.registry, Key: key, Sender: v.Sender, ShortCode: v.ShortCode, StopWords: v.StopWords,
		Text: v.Text, Confirm: v.Confirm, Send: g.owners.send(g.log),
		Limits: prove.Limits{
			PerNumber: v.PerNumber, PerAddress: v.PerAddress, PerSubnet: v.PerSubnet, PerApp: v.PerApp,
			PerPrefix: v.PerPrefix, PrefixDigits: v.PrefixDigits,
		},
		Alarms: prove.AlarmLimits{PrefixDigits: v.PrefixDigits, Sequence: v.AlarmSequence, Sent: v.AlarmSent, Conversion: v.AlarmConversion},
		Log:    g.log,
	})
	return nil
}

// keyOctets is the length of the key of codes' MACs.
const keyOctets = 32

// secretKey reads the key in that file, which it makes if it is not there. It
// keeps codes secret from whoever gets a copy of the registry alone.
func secretKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(b) == keyOctets:
		return b, nil
	case err == nil:
		return nil, fmt.Errorf("%s holds %d octets, want %d: remove it, and codes that are under way are void", path, len(b), keyOctets)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	key := make([]byte, keyOctets)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key, store.Replace(path, key, 0o600)
}

// api is what the app API needs of the owners.
func (g *Gateway) apiOwners() api.Owners {
	return api.Owners{
		Registry: g.registry, Prove: g.owners.prove, Evidence: g.owners.presence.Evidence,
		EvictAll: g.cfg.Verification.EvictAll, Grace: g.cfg.Verification.BearerGrace, Country: g.country,
		Apps: func(id string) bool { return slices.Contains(idsOf(g.config().Apps), id) },
	}
}

// idsOf are the apps' ids.
func idsOf(apps []config.App) []string {
	ids := make([]string, len(apps))
	for i := range apps {
		ids[i] = apps[i].ID
	}
	return ids
}

// send queues an SMS of Shunt's own. It does not block: what finds no place is
// lost, and the user asks for another one.
func (o *owners) send(log *slog.Logger) func(from string, to msg.Number, text string) {
	return func(from string, to msg.Number, text string) {
		select {
		case o.outgoing <- ownSMS{from, to, text, time.Now().Add(prove.GoodFor)}:
		default:
			log.Error("an SMS of our own was not sent, too many wait", "number", to.Masked())
		}
	}
}

// run serves until ctx is done.
func (o *owners) run(ctx context.Context, g *Gateway) {
	var wg sync.WaitGroup
	wg.Go(func() { o.presence.Run(ctx) })
	if o.recycled != nil {
		wg.Go(func() { o.recycled.Run(ctx) })
	}
	if o.prove != nil && g.own != nil {
		wg.Go(func() { o.submit(ctx, g.own, g.log) })
		wg.Go(func() { o.take(ctx, g.log) })
	}
	wg.Wait()
}

// submit sends what is queued, over the carrier and never otherwise: a code that
// went to the app would prove nothing.
func (o *owners) submit(ctx context.Context, own *upstream.Own, log *slog.Logger) {
	for {
		var m ownSMS
		select {
		case m = <-o.outgoing:
		case <-ctx.Done():
			return
		}
		p, err := m.pdu()
		if err != nil {
			log.Error("an SMS of our own cannot be written", "number", m.to.Masked(), "error", err)
			continue
		}
		wait, cancel := context.WithDeadline(ctx, m.until)
		err = own.Acquire(wait)
		cancel()
		if err != nil {
			log.Error("an SMS of our own was not sent, no bind has room", "number", m.to.Masked(), "error", err)
			continue
		}
		own.Submit(p, func(r upstream.Result) {
			if r.Err != nil || r.Status != pdu.ROK {
				log.Warn("an SMS of our own was not taken", "number", m.to.Masked(), "status", r.Status.String(), "error", r.Err)
			}
		})
	}
}

// pdu is the submit_sm. Its text fits one SMS.
func (m *ownSMS) pdu() (pdu.PDU, error) {
	a := coding.Best(m.text)
	octets, err := coding.Encode(a, m.text)
	if err != nil {
		return nil, err
	}
	sm := pdu.SM{Source: sourceOf(m.from), Dest: pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: []byte(m.to.String()[1:])}, ShortMessage: octets}
	if a == coding.UCS2 {
		sm.DataCoding = 0x08
	}
	return pdu.AppendSM(nil, pdu.SubmitSM, 1, &sm), nil
}

// onMO takes a subscriber's SMS that came on Shunt's own bind, if it is a keyword
// or a nonce. It is answered when what it says is on stable storage.
func (o *owners) onMO(m *pdu.SM, answer func(pdu.Status)) bool {
	if o.prove == nil {
		return false
	}
	alphabet, ok := coding.OfDataCoding(m.DataCoding, coding.GSM7)
	if !ok {
		return false
	}
	text, err := coding.Decode(alphabet, m.ShortMessage)
	if err != nil || !o.prove.Ours(string(m.Dest.Addr), text) {
		return false
	}
	from, err := msg.ParseNumber(string(m.Source.Addr))
	if err != nil || m.Source.TON == pdu.TONAlphanumeric || m.Source.TON == pdu.TONNational {
		return false // whose it is cannot be told
	}
	select {
	case o.incoming <- subscriberSMS{from, text, answer}:
	default:
		answer(pdu.RMSGQFUL) // the SMSC keeps it and sends it again
	}
	return true
}

// take works on subscribers' SMS, one after the other.
func (o *owners) take(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case m := <-o.incoming:
			wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeWithin)
			taken, err := o.prove.Message(wait, m.from, m.text)
			cancel()
			switch {
			case err != nil:
				log.Error("a subscriber's SMS could not be worked on, the SMSC is to send it again", "number", m.from.Masked(), "error", err)
				m.answer(pdu.RXTAPPN)
			case taken == prove.NotOurs:
				m.answer(pdu.RXPAPPN)
			default:
				m.answer(pdu.ROK)
			}
		case <-ctx.Done():
			return
		}
	}
}

// missed notes that nobody claimed a message in time.
func (o *owners) missed(n msg.Number, app string) {
	if o.presence != nil {
		o.presence.Missed(n, app)
	}
}
