package mail

import (
	"time"

	gomail "github.com/wneessen/go-mail"
)

// Within bounds each step with the mail server, so that a test need not wait for one
// that hangs.
func (s *SMTP) Within(d time.Duration) { s.options = append(s.options, gomail.WithTimeout(d)) }
