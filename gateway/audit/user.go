package audit

import (
	"os"
	"os/user"
	"strconv"
)

// UserName is a user's name, or "" for one that this machine does not know.
func UserName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return ""
}

// Self is the user of this process.
func Self() Actor { return Actor{UID: os.Getuid(), User: UserName(os.Getuid()), PID: os.Getpid()} }
