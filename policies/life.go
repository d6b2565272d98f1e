package policies

// Event is something that happens to a collaboration.
type Event string

// The events in the life of a collaboration.
const (
	EventInvite   Event = "invite" // also the re-invitation
	EventAccept   Event = "accept"
	EventReject   Event = "reject"
	EventExpire   Event = "expire"
	EventResend   Event = "resend"
	EventSuspend  Event = "suspend"
	EventActivate Event = "activate"
	EventLeave    Event = "leave"
	EventRemove   Event = "remove"
)

// StatusNone is the status of a collaboration that does not exist yet.
const StatusNone Status = ""

// transitions is the table of domain.md, Life of a collaboration:
//
//	                ┌─────────────── re-invite ────────────────┐
//	                ▼                                          │
//	(none) ─invite─▶ pending ─accept─▶ active ◀─activate─┐     │
//	                 │ │  ▲ │           │  └──suspend──▶ suspended
//	                 │ │  └─┘ resend    │                │     │
//	                 │ └─reject─▶ rejected ──────────────┼─────┤
//	                 └──expire──▶ expired  ──────────────┼─────┤
//	                                    └─leave─▶ left ◀─┘ ────┤
//	any but removed ─remove─▶ removed ─────────────────────────┘
var transitions = map[Event]map[Status]Status{
	EventInvite: {
		StatusNone: StatusPending, StatusLeft: StatusPending, StatusRejected: StatusPending,
		StatusRemoved: StatusPending, StatusExpired: StatusPending,
	},
	EventAccept:   {StatusPending: StatusActive},
	EventReject:   {StatusPending: StatusRejected},
	EventExpire:   {StatusPending: StatusExpired},
	EventResend:   {StatusPending: StatusPending},
	EventSuspend:  {StatusActive: StatusSuspended},
	EventActivate: {StatusSuspended: StatusActive},
	EventLeave:    {StatusActive: StatusLeft, StatusSuspended: StatusLeft},
	EventRemove: {
		StatusPending: StatusRemoved, StatusActive: StatusRemoved, StatusSuspended: StatusRemoved,
		StatusLeft: StatusRemoved, StatusRejected: StatusRemoved, StatusExpired: StatusRemoved,
		StatusRemoved: StatusRemoved, // done already: nothing changes
	},
}

// Next is the status that follows from event, or a [StateError] naming both
// where the table has no such pair.
func Next(member CollaborationID, from Status, event Event) (Status, error) {
	to, ok := transitions[event][from]
	if !ok {
		return "", &StateError{Member: member, Status: from, Event: event}
	}
	return to, nil
}
