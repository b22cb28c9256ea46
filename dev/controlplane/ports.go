package main

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// A portReservation holds a loopback port for a server that another process is about to start.
//
// Looking for a free port and hoping that it stays free is a race, lost often enough when several control planes start
// at once. Instead the port is bound here, with SO_REUSEPORT, and never listened on: the server binds it a second time
// with the same option and alone gets the connections, while everybody else is refused the port for as long as the
// reservation lives. SO_REUSEADDR must stay off on this socket: with it, any ordinary server could bind the port too.
type portReservation struct {
	port int
	fd   int
}

// reservePort reserves the wanted port, or any free one if the wanted one is 0 or taken.
func reservePort(wanted int) (*portReservation, error) {
	if wanted != 0 {
		r, err := bindPort(wanted)
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		}
	}
	return bindPort(0)
}

func bindPort(port int) (*portReservation, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a socket to reserve a port: %w", err)
	}
	fail := func(doing string, err error) (*portReservation, error) {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("reserving port %d on 127.0.0.1: %s: %w", port, doing, err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fail("setting SO_REUSEPORT", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fail("binding", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return fail("reading the port back", err)
	}
	inet4, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		return fail("reading the port back", fmt.Errorf("expected an IPv4 address, found %T", name))
	}
	return &portReservation{port: inet4.Port, fd: fd}, nil
}

func (r *portReservation) release() { _ = syscall.Close(r.fd) }
