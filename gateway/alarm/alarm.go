// Package alarm keeps what is wrong with the node at the moment: alarms that
// are raised, cleared, written to the log and sent to a webhook. What holds is
// observed elsewhere; this package decides when that is news.
package alarm

import "time"

// Severity is how much an alarm matters.
type Severity string

const (
	Critical Severity = "critical" // messages are lost, late or not diverted
	Warning  Severity = "warning"  // they will be, if nobody looks
)

// State is which of two an alarm is in.
type State string

const (
	Raised  State = "raised"
	Cleared State = "cleared"
)

// Alarm is one that is raised, or was.
type Alarm struct {
	Name      string    `json:"alarm"`
	Subject   string    `json:"subject"` // which SMSC, app or listener; "" where there is but one
	Severity  Severity  `json:"severity"`
	State     State     `json:"state"`
	Since     time.Time `json:"since"` // the condition began
	ClearedAt time.Time `json:"cleared_at,omitzero"`
	Text      string    `json:"text"` // what is the matter, as last observed
	WhatToDo  string    `json:"what_to_do"`
}

// Condition is something that holds at the moment. Name is of Kinds.
type Condition struct{ Name, Subject, Text string }

// Kind is what is known of all alarms of a name. A condition has to hold for
// RaiseAfter without a break before it is news, and to be gone for ClearAfter:
// what flaps is told once.
type Kind struct {
	Name                   string
	Severity               Severity
	RaiseAfter, ClearAfter time.Duration
	WhatToDo               string
}

// Names of alarms.
const (
	UpstreamDown        = "upstream-down"
	OwnBindDown         = "own-bind-down"
	OwnBindPartial      = "own-bind-partial"
	SpoolFailing        = "spool-failing"
	SpoolStalled        = "spool-stalled"
	SpoolFilling        = "spool-filling"
	DiskLow             = "disk-low"
	PushLaneOpen        = "push-lane-open"
	IndexLoading        = "registry-index-loading"
	RegistryCorrupt     = "registry-corrupt"
	DiversionOff        = "diversion-off"
	Draining            = "draining"
	Pumping             = "verification-pumping"
	CertificateExpiring = "certificate-expiring"
	CertificateExpired  = "certificate-expired"
	RecordsFailing      = "cdr-failing"
	AuditFailing        = "audit-failing"
	MetricsOff          = "metrics-off"
	WebhookFailing      = "webhook-failing"
)

// Kinds are all of them, by name.
var Kinds = []Kind{
	{AuditFailing, Critical, 0, 5 * time.Second, "Look at the disk and at audit.ndjson under node.data_dir: shunt audit verify FILE. Until it can be written only divert off and drain are obeyed."},
	{RecordsFailing, Warning, 5 * time.Second, 10 * time.Second, "Look at the disk and at the owner of the folder cdr under node.data_dir."},
	{CertificateExpired, Critical, 0, 0, "Put a new certificate in its place, then shunt reload."},
	{CertificateExpiring, Warning, 0, 0, "Put a new certificate in its place, then shunt reload."},
	{DiskLow, Critical, 2 * time.Second, 5 * time.Second, "Free space on the volume of node.data_dir. Diversion returns by itself."},
	{DiversionOff, Warning, 5 * time.Minute, 0, "shunt divert on, if the switch was forgotten; the configuration wants diversion."},
	{Draining, Warning, 15 * time.Minute, 0, "shunt undrain, if the drain was forgotten: the node takes no binds and no submits."},
	{MetricsOff, Warning, 0, 0, "Free the address of noc.listen, or choose another, and restart."},
	{OwnBindDown, Critical, 5 * time.Second, 10 * time.Second, "Check the SMSC, and Shunt's system_id and password there. Nothing is diverted meanwhile, and fallbacks wait."},
	{OwnBindPartial, Warning, 30 * time.Second, 30 * time.Second, "Check how many binds the SMSC allows Shunt's system_id."},
	{PushLaneOpen, Warning, 5 * time.Second, 15 * time.Second, "shunt status shows the last failure: check the network, and the app's key, team, topic or project. Messages of this app go as plain SMS."},
	{RegistryCorrupt, Warning, 5 * time.Second, 0, "The log names the numbers: shunt registry rm NUMBER, then put it again. Look at the disk."},
	{IndexLoading, Warning, 30 * time.Second, 0, "Wait: everything is forwarded until it is loaded. If it never is, look at the log and at the disk."},
	{SpoolFailing, Critical, 2 * time.Second, 10 * time.Second, "Look at the disk under node.data_dir. Messages go as plain SMS meanwhile."},
	{SpoolFilling, Warning, 5 * time.Second, 30 * time.Second, "shunt queue shows what waits: for a provider, for the SMSC, or for an ESME to take receipts. A full spool diverts nothing more."},
	{SpoolStalled, Critical, 2 * time.Second, 10 * time.Second, "Look at the disk under node.data_dir and at who else uses it. Messages go as plain SMS meanwhile."},
	{UpstreamDown, Critical, 5 * time.Second, 5 * time.Second, "Check the network and the SMSC: ESMEs get ESME_RBINDFAIL."},
	{Pumping, Warning, 0, time.Minute, "Somebody may have codes sent for the money. The log names the prefixes: look at who asks, and at the limits of [verification]."},
	{WebhookFailing, Warning, time.Minute, 0, "Check noc.alarm_webhook, its token and its certificate. What it has not taken is sent again."},
}

var kinds = func() map[string]*Kind {
	all := make(map[string]*Kind, len(Kinds))
	for i := range Kinds {
		all[Kinds[i].Name] = &Kinds[i]
	}
	return all
}()
