package noc

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"shunt/gateway/msg"
	"shunt/store/registry"
)

const (
	defaultPage = 100
	// MaxPage is the most registrations that a page holds.
	MaxPage = 1000
)

func (s *Server) list(_ http.ResponseWriter, r *http.Request) (any, error) {
	limit, err := limitOf(r, defaultPage, MaxPage)
	if err != nil {
		return nil, err
	}
	after, err := s.afterOf(r)
	if err != nil {
		return nil, err
	}
	// One more than asked for tells whether there is a next page.
	regs, err := s.o.Registry.List(r.Context(), after, limit+1)
	if err != nil {
		return nil, err
	}
	p := Page{Registrations: make([]Registration, 0, min(len(regs), limit))}
	for i := range regs[:min(len(regs), limit)] {
		p.Registrations = append(p.Registrations, registrationOf(regs[i], unmask(r)))
	}
	if len(regs) > limit {
		p.Next = s.cursorOf(regs[limit-1].Number, unmask(r))
	}
	return p, nil
}

func (s *Server) count(http.ResponseWriter, *http.Request) (any, error) {
	ready := s.o.Registry.Ready()
	c := s.o.Registry.Count()
	return Count{Numbers: c.Numbers, Active: c.Active, Devices: c.Devices, Corrupt: c.Corrupt, Ready: ready}, nil
}

func (s *Server) get(_ http.ResponseWriter, r *http.Request) (any, error) {
	n, err := s.numberIn(r)
	if err != nil {
		return nil, err
	}
	reg, err := s.o.Registry.Get(n)
	if err != nil {
		return nil, err
	}
	return registrationOf(reg, unmask(r)), nil
}

func (s *Server) put(w http.ResponseWriter, r *http.Request) (any, error) {
	var b Put
	if err := readJSON(w, r, &b); err != nil {
		return nil, err
	}
	n, err := s.o.Country(b.App).Parse(r.PathValue("number"))
	if err != nil {
		return nil, problemf(http.StatusBadRequest, CodeInvalid, "%v", err)
	}
	p, err := b.registryPut(n)
	if err != nil {
		return nil, err
	}
	if err := s.apps().check(p.App); err != nil {
		return nil, err
	}
	if err := s.begin(r, fmt.Sprintf("number=%s app=%s platform=%s device=%s state=%s", n.Masked(), p.App, p.Platform, p.Device, stateOf(p.Active)), false); err != nil {
		return nil, err
	}
	res, err := s.o.Registry.Put(r.Context(), p)
	if err != nil {
		return nil, err
	}
	s.o.Log.Info("control socket: device put", "number", n.Masked(), "app", p.App, "device", res.Device, "state", stateOf(p.Active))
	answer := PutAnswer{Registration: registrationOf(res.Registration, unmask(r)), Device: res.Device}
	if b.Bearer == "" {
		answer.Bearer = res.Bearer // made by the registry just now, or kept and not repeated
	}
	return answer, nil
}

func (s *Server) remove(_ http.ResponseWriter, r *http.Request) (any, error) {
	n, err := s.numberIn(r)
	if err != nil {
		return nil, err
	}
	device := r.URL.Query().Get("device")
	if err := s.begin(r, fmt.Sprintf("number=%s device=%s", n.Masked(), device), false); err != nil {
		return nil, err
	}
	removed, err := s.o.Registry.Remove(r.Context(), n, device)
	switch {
	case err != nil:
		return nil, err
	case !removed && device != "":
		return nil, problemf(http.StatusNotFound, CodeNotFound, "number %s has no device of that name: `shunt registry get NUMBER` shows its devices", shown(n, unmask(r)))
	case !removed:
		return nil, problemf(http.StatusNotFound, CodeNotFound, "number %s is not registered: nothing to remove", shown(n, unmask(r)))
	}
	s.o.Log.Info("control socket: removed", "number", n.Masked(), "device", device)
	return removedBody{true}, nil
}

// registryPut reads what is text in p; the registry itself checks the rest.
func (p *Put) registryPut(n msg.Number) (registry.Put, error) {
	platform, err := registry.ParsePlatform(p.Platform)
	if err != nil {
		return registry.Put{}, fmt.Errorf("platform: %w: want apns or fcm", registry.ErrInvalid)
	}
	switch p.State {
	case "", stateActive, stateInactive:
	default:
		return registry.Put{}, fmt.Errorf("state: %w: want active or inactive", registry.ErrInvalid)
	}
	traits := registry.Traits{Preference: p.Preference}
	if p.Permission != "" {
		if traits.Permission, err = registry.ParsePermission(p.Permission); err != nil {
			return registry.Put{}, fmt.Errorf("permission: %w: want granted, denied or unknown", registry.ErrInvalid)
		}
	}
	if p.Features != nil {
		f, err := registry.ParseFeatures(*p.Features)
		if err != nil {
			return registry.Put{}, fmt.Errorf("features: %w: want receipts, read, reply or rich", registry.ErrInvalid)
		}
		traits.Lacks = registry.AllFeatures &^ f
	}
	return registry.Put{
		Traits: traits, KeepTraits: p.Features == nil && p.Permission == "" && p.Preference == 0, ProvenAt: p.ProvenAt,
		Number: n, App: p.App, Platform: platform, Token: p.Token, Device: p.Device,
		Bearer: p.Bearer, Active: p.State != stateInactive, Sandbox: p.Sandbox,
	}, nil
}

// apps are the ids of those in the configuration in use. A device of any other
// can never be pushed to.
type apps []string

func (s *Server) apps() apps {
	_, ids := s.o.Gateway.Names()
	return ids
}

// check refuses an app that is not configured; the error begins with the field.
func (a apps) check(id string) error {
	switch {
	case slices.Contains(a, id):
		return nil
	case len(a) == 0:
		return fmt.Errorf("app: %w: %.*q is not in the configuration, which has no [[app]]", registry.ErrInvalid, registry.MaxName, id)
	}
	return fmt.Errorf("app: %w: %.*q is not in the configuration: want %s", registry.ErrInvalid, registry.MaxName, id, orOf(a))
}

// orOf lists what may be: a, b or c.
func orOf(all []string) string {
	last := len(all) - 1
	if last == 0 {
		return all[0]
	}
	return strings.Join(all[:last], ", ") + " or " + all[last]
}

func registrationOf(reg registry.Registration, clear bool) Registration {
	out := Registration{
		Number: shown(reg.Number, clear), State: stateOf(reg.Active()), Generation: reg.Generation,
		Devices: make([]Device, 0, len(reg.Devices)),
	}
	for i := range reg.Devices {
		d := &reg.Devices[i]
		out.Devices = append(out.Devices, Device{
			Device: d.ID, App: d.App, Platform: d.Platform.String(), Sandbox: d.Sandbox,
			Features: d.Features.Names(), Permission: d.Permission.String(), Preference: d.Preference,
			Presence: d.Presence.String(), SeenAt: d.SeenAt.UTC(), ProvenAt: d.ProvenAt.UTC(),
			State: stateOf(d.Active), Source: d.Source, RegisteredAt: d.RegisteredAt.UTC(), UpdatedAt: d.UpdatedAt.UTC(),
		})
	}
	return out
}

func shown(n msg.Number, clear bool) string {
	if clear {
		return n.String()
	}
	return n.Masked()
}

func unmask(r *http.Request) bool { return r.URL.Query().Get("unmask") == "1" }

// numberIn is the number of the path that somebody looks for.
func (s *Server) numberIn(r *http.Request) (msg.Number, error) {
	n, err := s.o.Country("").ParseKnown(r.PathValue("number"))
	if err != nil {
		return 0, problemf(http.StatusBadRequest, CodeInvalid, "%v", err)
	}
	return n, nil
}

func limitOf(r *http.Request, usual, most int) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, problemf(http.StatusBadRequest, CodeInvalid, "limit: want 1 to %d", most)
	}
	return n, nil
}

// cursorOf is what a next page begins behind. A masked list must not give its
// numbers away there, so the number is sealed with the key of this run: one
// block, whose first half is zero so that a forged one is recognised.
func (s *Server) cursorOf(n msg.Number, clear bool) string {
	if clear {
		return n.String()
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[8:], uint64(n))
	s.cursor.Encrypt(b[:], b[:])
	return hex.EncodeToString(b[:])
}

// afterOf reads a number or what cursorOf wrote; no after is the beginning.
func (s *Server) afterOf(r *http.Request) (msg.Number, error) {
	text := r.URL.Query().Get("after")
	if text == "" {
		return 0, nil
	}
	if n, err := msg.ParseNumber(text); err == nil {
		return n, nil
	}
	b, err := hex.DecodeString(text)
	if err == nil && len(b) == 16 {
		s.cursor.Decrypt(b, b)
		if binary.BigEndian.Uint64(b) == 0 {
			return msg.Number(binary.BigEndian.Uint64(b[8:])), nil
		}
	}
	return 0, problemf(http.StatusBadRequest, CodeInvalid, "after: want a number, or the next of an earlier page of this run of the gateway; begin again without it")
}
