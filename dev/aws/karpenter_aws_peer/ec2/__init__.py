"""EC2 as moto has it, with our actions over it: response.py puts them together."""
