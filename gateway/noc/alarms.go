package noc

import (
	"context"
	"net/http"

	"shunt/gateway/alarm"
)

// Alarms is the part of alarm.Store that operators read.
type Alarms interface {
	Raised() []alarm.Alarm
	Recent() []alarm.Alarm
}

// AlarmList is what is raised, and what was cleared lately.
type AlarmList struct {
	Raised  []alarm.Alarm `json:"raised"`  // the critical ones first
	Cleared []alarm.Alarm `json:"cleared"` // in this run of the gateway, the latest first
}

func (s *Server) alarms(http.ResponseWriter, *http.Request) (any, error) {
	return AlarmList{Raised: s.o.Alarms.Raised(), Cleared: append([]alarm.Alarm{}, s.o.Alarms.Recent()...)}, nil
}

// Alarms are those that are raised, and those cleared lately.
func (c *Client) Alarms(ctx context.Context) (l AlarmList, err error) {
	return l, c.call(ctx, http.MethodGet, "/v1/alarms", nil, nil, &l)
}
