package admin_test

import (
	"testing"

	"github.com/usher-authz/usher/admin/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }
