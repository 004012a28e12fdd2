package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shunt/gateway/msg"
	"shunt/store/registry"
)

// Registrar changes what is registered; all of it is on stable storage when it
// returns.
type Registrar interface {
	Get(n msg.Number) (registry.Registration, error)
	Put(ctx context.Context, p registry.Put) (registry.PutResult, error)
	Remove(ctx context.Context, n msg.Number, device string) (bool, error)
	Saw(ctx context.Context, all ...registry.Seen) error
}

func (h *handlers) registerDevices(a huma.API) {
	security := []map[string][]string{{bearerScheme: {}}}
	huma.Register(a, huma.Operation{
		OperationID: "put-device", Method: http.MethodPut, Path: "/v1/devices/{id}",
		Summary:     "Register a device, or change it",
		Description: "With a proof of its number the device is registered, and other devices of the same app on that number are evicted. Without one the caller's own device is changed, as with a new push token, or a further device of the same user is registered beside it. A DPoP header at the registration binds the device to its key. The answer to a registration and to rotate holds the bearer, which is shown this once.",
		Security:    []map[string][]string{{}, {bearerScheme: {}}}, MaxBodyBytes: maxBody,
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusNotImplemented, http.StatusServiceUnavailable},
	}, h.putDevice)
	huma.Register(a, huma.Operation{
		OperationID: "get-device", Method: http.MethodGet, Path: "/v1/devices/{id}",
		Summary: "Read the device back", Security: security,
		Errors: []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable},
	}, h.getDevice)
	huma.Register(a, huma.Operation{
		OperationID: "delete-device", Method: http.MethodDelete, Path: "/v1/devices/{id}",
		Summary:     "Take the device off its number",
		Description: "The next message goes as SMS, unless another device is registered.",
		Security:    security, DefaultStatus: http.StatusNoContent,
		Errors: []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable},
	}, h.deleteDevice)
	huma.Register(a, huma.Operation{
		OperationID: "heartbeat", Method: http.MethodPost, Path: "/v1/devices/{id}/heartbeat",
		Summary:     "Say that the app is alive",
		Description: "Once a day, and when the user has changed what notifications may do. Every other call of the device says it too.",
		Security:    security, DefaultStatus: http.StatusNoContent, MaxBodyBytes: maxBody,
		Errors: []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}, h.heartbeat)
}

type deviceInput struct {
	ID   string `path:"id" maxLength:"64" pattern:"^[!-.0-~]+$" doc:"Chosen by the app, the same for as long as it is installed." example:"4f0c7a52"`
	Body struct {
		Proof      string    `json:"proof,omitempty" maxLength:"64" doc:"From the check of a verification."`
		App        string    `json:"app" maxLength:"64" doc:"The app's id." example:"chat"`
		Platform   string    `json:"platform" enum:"apns,fcm"`
		Token      string    `json:"token" minLength:"1" maxLength:"4096" doc:"The push token." example:"d3adb33f"`
		Sandbox    bool      `json:"sandbox,omitempty" doc:"The token is of APNs' sandbox."`
		Features   *[]string `json:"features,omitempty" nullable:"false" doc:"What the app can do, of receipts, read, reply and rich. Left out: all of it."`
		Permission string    `json:"permission,omitempty" enum:"granted,denied,unknown" default:"unknown" doc:"What the user has said to notifications. With denied all messages go as SMS."`
		Preference int       `json:"preference,omitempty" minimum:"0" maximum:"255" doc:"Among the apps of a number the lowest goes first."`
		Rotate     bool      `json:"rotate,omitempty" doc:"Make a new bearer; the one before is good a while longer."`
	}
}

type deviceBody struct {
	ID           string     `json:"id"`
	App          string     `json:"app"`
	Platform     string     `json:"platform"`
	Sandbox      bool       `json:"sandbox"`
	State        string     `json:"state" enum:"active,stale,inactive" doc:"Messages are diverted to active and, with less time to claim, to stale devices."`
	Features     []string   `json:"features" nullable:"false"`
	Permission   string     `json:"permission" enum:"granted,denied,unknown"`
	Preference   int        `json:"preference"`
	RegisteredAt time.Time  `json:"registered_at"`
	ProvenAt     *time.Time `json:"proven_at,omitempty"`
	Bearer       string     `json:"bearer,omitempty" doc:"For Authorization, shown this once."`
	TokenType    string     `json:"token_type,omitempty" enum:"Bearer,DPoP" doc:"The scheme that goes with the bearer."`
}

type deviceOutput struct{ Body deviceBody }

func (h *handlers) putDevice(ctx context.Context, in *deviceInput) (*deviceOutput, error) {
	if h.Registry == nil {
		return nil, notOffered()
	}
	p, err := h.put(ctx, in)
	if err != nil {
		return nil, err
	}
	res, err := h.Registry.Put(ctx, p)
	if err != nil {
		return nil, h.registryProblem(err)
	}
	n := res.Registration.Number
	if p.ProofHash != [32]byte{} {
		h.Log.Info("device registered by proof", "number", n.Masked(), "app", p.App, "device", res.Device, "evicted", res.Evicted)
		if h.Prove != nil {
			h.Prove.Registered(n, p.App)
		}
	}
	d, _ := res.Registration.Device(res.Device)
	if h.Evidence != nil {
		h.Evidence(n, d.ID, d.App)
	}
	out := &deviceOutput{deviceOf(&d)}
	if res.Bearer != "" {
		out.Body.Bearer, out.Body.TokenType = res.Bearer, "Bearer"
		if d.Thumbprint != [32]byte{} {
			out.Body.TokenType = "DPoP"
		}
	}
	return out, nil
}

// put is what a PUT asks of the registry, on the word of a proof or of the
// caller.
func (h *handlers) put(ctx context.Context, in *deviceInput) (p registry.Put, err error) {
	b := &in.Body
	p = registry.Put{Device: in.ID, App: b.App, Token: b.Token, Sandbox: b.Sandbox, Active: true}
	if p.Platform, err = registry.ParsePlatform(b.Platform); err != nil {
		return p, invalid("body.platform", "want apns or fcm")
	}
	if b.Features != nil {
		f, err := registry.ParseFeatures(*b.Features)
		if err != nil {
			return p, invalid("body.features", "want any of receipts, read, reply, rich")
		}
		p.Lacks = registry.AllFeatures &^ f
	}
	if b.Permission != "" {
		if p.Permission, err = registry.ParsePermission(b.Permission); err != nil {
			return p, invalid("body.permission", "want granted, denied or unknown")
		}
	}
	p.Preference = uint8(b.Preference)
	r := requestIn(ctx)
	c, known := ctx.Value(callerKey{}).(caller)
	switch {
	case b.Proof != "":
		p.ProofHash, p.EvictAll = sha256.Sum256([]byte(b.Proof)), h.EvictAll
		if len(r.proofs) > 0 && !known {
			if p.Thumbprint, err = h.proven(r, ""); err != nil {
				return p, newProblem(http.StatusUnauthorized, codeDPoP, "DPoP header: "+err.Error())
			}
		} else if known {
			p.Thumbprint = c.device.Thumbprint
		}
	case !known:
		return p, newProblem(http.StatusUnauthorized, codeUnauthorized, "send a proof of the number, or the bearer of a device that is registered")
	case c.device.App != b.App:
		return p, invalid("body.app", "is not the app of the caller's device: prove the number for another one")
	default:
		p.Number, p.By, p.Thumbprint = c.number, c.device.ID, c.device.Thumbprint
		p.Rotate, p.Using, p.Grace = b.Rotate && in.ID == c.device.ID, r.using, h.Grace
	}
	return p, nil
}

func (h *handlers) getDevice(ctx context.Context, in *idInput) (*deviceOutput, error) {
	c, err := h.ownDevice(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &deviceOutput{deviceOf(&c.device)}, nil
}

func (h *handlers) deleteDevice(ctx context.Context, in *idInput) (*struct{}, error) {
	c, err := h.ownDevice(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if _, err := h.Registry.Remove(ctx, c.number, c.device.ID); err != nil {
		return nil, h.registryProblem(err)
	}
	h.Log.Info("device removed by its app", "number", c.number.Masked(), "app", c.device.App, "device", c.device.ID)
	return nil, nil
}

type heartbeatInput struct {
	ID   string `path:"id" maxLength:"64"`
	Body *struct {
		Permission string `json:"permission,omitempty" enum:"granted,denied,unknown" doc:"What the user has said to notifications."`
	} `required:"false"`
}

// heartbeat is evidence, which authenticate has noted in RAM; only what changes
// the device is written.
func (h *handlers) heartbeat(ctx context.Context, in *heartbeatInput) (*struct{}, error) {
	c, err := h.ownDevice(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	seen := registry.Seen{Number: c.number, Device: c.device.ID}
	if in.Body != nil && in.Body.Permission != "" {
		p, err := registry.ParsePermission(in.Body.Permission)
		if err != nil {
			return nil, invalid("body.permission", "want granted, denied or unknown")
		}
		if p != c.device.Permission {
			seen.Permission = &p
		}
	}
	if c.device.Presence != registry.PresenceActive {
		active := registry.PresenceActive
		seen.Presence, seen.At = &active, time.Now()
	}
	if seen.Permission != nil || seen.Presence != nil {
		if err := h.Registry.Saw(ctx, seen); err != nil {
			return nil, h.registryProblem(err)
		}
	}
	return nil, nil
}

// ownDevice is the caller, if the path names its own device.
func (h *handlers) ownDevice(ctx context.Context, id string) (caller, error) {
	c := callerOf(ctx)
	switch {
	case h.Registry == nil:
		return c, notOffered()
	case c.device.ID != id:
		return c, newProblem(http.StatusNotFound, codeNotFound, "the bearer is not of this device")
	}
	return c, nil
}

func (h *handlers) registryProblem(err error) error {
	switch {
	case errors.Is(err, registry.ErrProof):
		return newProblem(http.StatusForbidden, codeProof, "the proof is none, is over, was used for another device, or is of another app: verify the number again")
	case errors.Is(err, registry.ErrDeviceInUse), errors.Is(err, registry.ErrBearerInUse):
		return newProblem(http.StatusConflict, codeInUse, "another installation has this device id: choose another")
	case errors.Is(err, registry.ErrTooManyDevices):
		return newProblem(http.StatusConflict, codeDevices, "the number has as many devices as it may have: remove one")
	case errors.Is(err, registry.ErrNotFound):
		return newProblem(http.StatusUnauthorized, codeUnauthorized, "the device is not registered any more")
	case errors.Is(err, registry.ErrInvalid):
		return invalid("body.token", "want printable ASCII characters without blanks")
	}
	h.Log.Error("registry did not do what an app asked for", "error", err)
	return tryAgain()
}

func deviceOf(d *registry.Device) deviceBody {
	b := deviceBody{
		ID: d.ID, App: d.App, Platform: d.Platform.String(), Sandbox: d.Sandbox, State: "inactive",
		Features: d.Features.Names(), Permission: d.Permission.String(), Preference: int(d.Preference), RegisteredAt: stamp(d.RegisteredAt),
	}
	if d.Usable() {
		b.State = d.Presence.String()
	}
	if !d.ProvenAt.IsZero() {
		t := stamp(d.ProvenAt)
		b.ProvenAt = &t
	}
	return b
}
