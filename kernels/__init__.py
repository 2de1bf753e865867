"""The operations that carry the method: public function, checks and dispatch, with the torch implementation beside."""
