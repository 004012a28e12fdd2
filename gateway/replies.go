package gateway

import (
	"shunt/gateway/api"
	"shunt/gateway/msg"
	"shunt/gateway/receipt"
	"shunt/store/spool"
)

// apiOptions are what the app API works on.
func (g *Gateway) apiOptions() api.Options {
	o := api.Options{
		Spool: g.spool, Devices: g.registry, Text: textOf, Log: g.log,
		Replies:    &api.Replies{Spool: g.spool, Compose: g.composeReply, Validity: g.cfg.API.ReplyValidity},
		Owners:     g.apiOwners(),
		Registered: g.registered, Origins: g.cfg.API.CORSOrigins, Rate: g.apiRate,
	}
	if g.cfg.API.Streams > 0 {
		o.Streams = g.streams
	}
	return o
}

// composeReply makes the deliver_sm of a reply, in the alphabet that the account
// expects.
func (g *Gateway) composeReply(r *spool.Record, m *spool.Message, text string) ([][]byte, error) {
	reference := g.replyReference.Add(1)
	return receipt.BuildReply(r, m.PDU, g.accountNamed(r.Account.SystemID).Alphabet, text, byte(reference))
}

// registered tells whether a number still has that device.
func (g *Gateway) registered(n msg.Number, device string) bool {
	reg, err := g.registry.Get(n)
	if err != nil {
		return false
	}
	_, ok := reg.Device(device)
	return ok
}

// apiRate is how many requests a second a device of that app may make.
func (g *Gateway) apiRate(app string) int {
	c := g.config()
	for i := range c.Apps {
		if a := &c.Apps[i]; a.ID == app && a.APIRate > 0 {
			return int(a.APIRate)
		}
	}
	return int(c.API.Rate)
}
