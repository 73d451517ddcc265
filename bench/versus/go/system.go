package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Files besides the connections.
const spareFiles = 100

// Returns the CPU time of all threads of this process.
func cpuTime() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, err
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// Checks if this process may open this number of sockets.
func enoughFiles(sockets int) error {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	if uint64(files.Cur) < uint64(sockets+spareFiles) {
		return unsupported{fmt.Sprintf("%d sockets are more than the %d files allowed", sockets, files.Cur)}
	}
	return nil
}

// Returns the resident memory of this process.
func residentBytes() (float64, error) {
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, unsupported{"resident memory is not available here"}
	}
	kibibytes, err := numberAfter(string(text), "Rss:")
	return float64(kibibytes) * 1024, err
}

// Returns how often each thread has gone to sleep, which equals its wake-ups.
func wakeUpsSoFar() (map[string]uint64, error) {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		return nil, unsupported{"the number of wake-ups is not available here"}
	}
	sleeps := make(map[string]uint64)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			// The thread has ended since it was listed.
			continue
		}
		if sleeps[file], err = numberAfter(string(text), "voluntary_ctxt_switches:"); err != nil {
			return nil, err
		}
	}
	return sleeps, nil
}

func numberAfter(text, name string) (uint64, error) {
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, name) {
			return strconv.ParseUint(strings.Fields(line[len(name):])[0], 10, 64)
		}
	}
	return 0, errors.New("/proc has no " + name)
}
